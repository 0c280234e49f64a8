"""The set of faults keeps fitting the library; ``run.py`` says whether the tests find them."""

import ast

from tests.faults.table import PACKAGE, ROOT, faults

LIBRARY = ROOT / PACKAGE


def test_each_still_fits():
    problems = []
    for fault in faults():
        try:
            ast.parse(fault.faulty(ROOT))
        except (ValueError, SyntaxError, OSError) as error:
            problems.append(f'{fault.name}: {error}')
    assert not problems, '\n'.join(problems)


def test_names_are_unique():
    names = [fault.name for fault in faults()]
    assert sorted(names) == sorted(set(names))


def test_every_package_and_module_has_one():
    packages = {path.parent.name for path in LIBRARY.glob('*/__init__.py')}
    modules = {path.name for path in LIBRARY.glob('*.py')} - {'__init__.py', 'version.py'}
    found = {fault.file.partition('/')[0] for fault in faults()}
    assert packages | modules == found - {'..'}  # which holds the tools
