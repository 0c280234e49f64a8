"""Where pictures of predictions go, in a run."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.visualization import LocalVisBackend
from mmengine.visualization.vis_backend import force_init_env

from mmsigma.checkpoint.atomic_write import write
from mmsigma.registry import VISBACKENDS


@VISBACKENDS.register_module()
class AtomicVisBackend(LocalVisBackend):
    """MMEngine's ``LocalVisBackend`` whose pictures and config are never half-written."""

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config."""
        write(self._config_save_file, config.pretty_text.encode())

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Record an RGB picture ``(H, W, 3)`` of bytes as ``NAME_STEP.png``."""
        encoded = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        write(Path(self._img_save_dir) / f'{name}_{step}.png', encoded.tobytes())
