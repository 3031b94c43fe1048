"""nbgrader's settings for the exercises of xbl-kit; nbgrader.md says how to use them."""

c = get_config()  # noqa: F821  (nbgrader brings it)

# The exercises come without solutions, so there is nothing to cut out of them.
c.ClearSolutions.enabled = False

# The first cells of a notebook may train a model, which takes minutes where `build/` is not there.
c.Execute.timeout = 900
