"""`python -m xbl_kit`, the same as `xbl-kit`."""

from xbl_kit.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
