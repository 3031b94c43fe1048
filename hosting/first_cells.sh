#!/usr/bin/env bash
# Tries what Colab and Binder run first, without either, and without the internet: in environments
# that have no kit, from a folder of wheels such as the bundle's.
#
#     hosting/first_cells.sh WHEELS [PYTHON]
#
# Environments are made by PYTHON (python3) and are empty; if PYTHON is that of an environment, they
# see what it has, as Colab's has torch and Jupyter: it must not have the kit.
set -euo pipefail
wheels=$(realpath "$1") python=${2:-python3} kit=$(realpath "$(dirname "$0")/..")
export PIP_NO_INDEX=1 PIP_FIND_LINKS=$wheels PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
unset PYTHONPATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seen=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

environment() { # NAME: an environment without the kit
    "$python" -m venv "$work/$1"
    "$python" -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' &&
        echo "$seen" > "$("$work/$1/bin/python" -c \
            'import sysconfig; print(sysconfig.get_path("purelib"))')/seen.pth"
    ! "$work/$1/bin/python" -c 'import xbl_kit' 2> /dev/null || { echo "$1: has the kit" >&2; exit 1; }
}

cd "$work" # not in the repository, where Python would find the kit
echo "Colab: a lesson alone, opened in a folder with nothing else"
environment colab
mkdir "$work/content" "$work/data"
"$work/colab/bin/pip" install --quiet ipykernel nbclient
cat > "$work/try.py" << 'END'
import sys
import nbformat
from nbclient import NotebookClient

lesson = nbformat.read(sys.argv[1], as_version=4)
first = next(cell for cell in lesson.cells if "first-cell" in cell.metadata.get("tags", ()))
then = "import pandas as pd, xbl_kit.widgets\nprint(xbl_kit.__file__)\n"
then += f"print(len(pd.read_json('{sys.argv[2]}')), 'rows of a table')"
lesson.cells = [first, nbformat.v4.new_code_cell(then)]
for time in "once", "after a restart":
    NotebookClient(lesson, timeout=3600, kernel_name="python3").execute()
    print(time, *(output.text for output in lesson.cells[1].outputs), sep=": ")
END
cd "$work/content"
table=benchmarks/random_pairs.json
JUPYTER_DATA_DIR=$work/data "$work/colab/bin/python" "$work/try.py" \
    "$kit/notebooks/03_refine_with_exbl.ipynb" "../$table"
JUPYTER_DATA_DIR=$work/data "$work/colab/bin/python" "$work/try.py" \
    "$kit/notebooks/exercises/03_refine_with_exbl.ipynb" "../../$table"

echo "Binder: its requirements, then postBuild, in a copy of the repository"
cd "$work"
environment binder
git -C "$kit" checkout-index --all --prefix="$work/repository/"
cd repository
[ -d "$kit/build/start-here" ] && mkdir build && cp -r "$kit/build/start-here" build/
"$work/binder/bin/pip" install --quiet --requirement .binder/requirements.txt
PATH="$work/binder/bin:$PATH" .binder/postBuild
echo "Colab's and Binder's first steps have run"
