"""The table of trunks: what each trunk config is, from building it without weights."""

from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config

from mmsigma.apis.params import of_trunk

HEADER = (
    '| config | model | family | parameters | width | blocks | patch | native input | SIGMA | '
    'weights |\n|---|---|---|--:|--:|--:|--:|--:|--:|---|'
)


def row(path: Path) -> str:
    """The line of one trunk config, in Markdown."""
    config = Config.fromfile(path)
    backbone = of_trunk(config)
    trunk, blocks = backbone.trunk, backbone.trunk.blocks()
    own = sum(p.numel() for p in trunk.parameters())
    share = sum(p.numel() for p in backbone.adapters.parameters()) / own
    widths = list(dict.fromkeys(block.width for block in blocks))
    release = config.release
    about = path.read_text().splitlines()[0].removeprefix('# ').split(' through ')[0].rstrip('.')
    cells = (
        f'`{path.stem}`',
        about,
        config.trunk.type,
        f'{own / 1e6:,.1f} M',
        '/'.join(map(str, widths)),
        str(len(blocks)),
        str(trunk.patch),
        str(release.input_size),
        f'{100 * share:.2f} %',
        f'[{release.licence}]({release.source})',
    )
    return f'| {" | ".join(cells)} |'


def table(paths: Iterable[Path]) -> str:
    """The table of these trunk configs, in Markdown."""
    return '\n'.join([HEADER, *map(row, paths)])
