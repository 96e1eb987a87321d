"""The initial values that several architectures share."""

from __future__ import annotations

from tinygrad_cv import nn


def initialise(model: nn.Module, linear: str = "layer") -> None:
    """Convolutions He-normal by fan out with biases 0 (He et al., arXiv:1502.01852), normalisations scale 1 and shift 0.

    linear: what linear layers start with: "layer", as the layer made it; "normal", of deviation 0.01; "he", He-normal by fan in;
    the last two with biases 0.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)) and module.weight is not None:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and linear != "layer":
            if linear == "he":
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)
