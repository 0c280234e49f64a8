"""Write adapters as files.

Usage: ``python tools/model_converters/export_adapter.py CHECKPOINT OUT``
"""

import argparse

from mmsigma.engine import launch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Adapters alone, without head and optimiser, as safetensors and JSON.'
    )
    parser.add_argument('checkpoint', help='a checkpoint of a run')
    parser.add_argument('out', help='folder for adapter.safetensors and adapter.json')
    launch.add_trust(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmsigma.checkpoint import adapter_files, loading, safe_loading

    safe_loading.trust_all(args.trust_checkpoint)
    launch.check_checkpoint(args.checkpoint)
    counts = adapter_files.save(loading.tensors(loading.read(args.checkpoint)), args.out)
    print(
        f'{args.out}: {counts["tensors"]} tensors, {counts["parameters"]:,} parameters, '
        f'{counts["bytes"] / 1e6:.2f} MB'
    )


if __name__ == '__main__':
    launch.run(main)
