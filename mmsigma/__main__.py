"""The command ``mmsigma``: the tools by name, from any folder.

::

    mmsigma                                             # what there is
    mmsigma train sigma_dinov2-s_fcn_camvid-308x224     # a config's path or name
"""

import ast
import runpy
import sys
from pathlib import Path

from mmsigma import installed
from mmsigma.errors import unknown


def tools() -> dict[str, Path]:
    """Scripts by the names that users type."""
    folder = installed.folder('tools')
    paths = [*folder.glob('*.py'), *folder.glob('*_converters/*.py'), *folder.glob('*_tools/*.py')]
    return {path.stem: path for path in sorted(paths, key=lambda path: path.stem)}


def main() -> None:
    """Run the tool that the first argument names, with the others."""
    name, known = (sys.argv[1] if len(sys.argv) > 1 else '--help'), tools()
    if name in ('-h', '--help'):
        print('usage: mmsigma TOOL [arguments]; mmsigma TOOL --help says which\n')
        for tool, path in known.items():
            words = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
            print(f'  {tool:<22}{words.partition(chr(10))[0].partition(": ``")[0]}')
    elif name not in known:
        sys.exit(f'error: {unknown("tool", name, known)}')
    else:
        path = known[name]
        sys.argv[:2] = [str(path)]
        sys.path.insert(0, str(path.parent))  # as `python path` has it
        runpy.run_path(str(path), run_name='__main__')


if __name__ == '__main__':
    main()
