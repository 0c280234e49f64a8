"""Records of runs as grids write them, made up."""

import json


def record(
    method='lora', rate=1e-3, seed=0, val=(40.0,), test=30.0, metric='mIoU', inner=None, **more
):
    """A record with validations every 100 steps; ``test=None`` for a run without a test split."""
    inside = '' if inner is None else f'_inner{inner:g}'
    made = {
        'run': f'{method}_lr{rate:g}{inside}_seed{seed}',
        'method': method,
        'rate': rate,
        **({} if inner is None else {'inner_rate': inner}),
        'seed': seed,
        'config': '0123456789abcdef',
        'validation': [{'step': 100 * i, metric: value} for i, value in enumerate(val, 1)],
        'test': None if test is None else {metric: test},
        'share_percent': 2.0,
        'seconds_per_step': 0.5,
        'peak_memory_mib': 1000,
        'wall_seconds': 60.0,
        'finished': '2026-01-01T00:00:00+00:00',
        'commit': 'abc1234',
        'versions': {'torch': '2.11.0'},
        'device': 'A processor',
        'threads': 1,
    }
    return {**made, **more}


def save(folder, *records):
    folder.mkdir(parents=True, exist_ok=True)
    for made in records:
        (folder / f'{made["run"]}.json').write_text(json.dumps(made))
    return folder
