"""Adam, as torch.optim computes it. Written out because making a torch.optim optimiser imports torch's compiler, which
takes longer (four seconds) than most runs spend on learning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam with an L2 penalty on the named parameters. Its whole state is `moments` and the number of steps."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], *, weight_decay: float) -> None:
        self._parameters = dict(parameters)
        self._weight_decay = weight_decay
        self._first = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._second = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._steps = 0

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Moves every parameter that has a gradient, then forgets the gradients."""
        self._steps += 1
        correction1, correction2 = 1 - BETA1**self._steps, 1 - BETA2**self._steps
        for name, parameter in self._parameters.items():
            if parameter.grad is None:
                continue
            gradient = parameter.grad.add_(parameter, alpha=self._weight_decay)
            first = self._first[name].lerp_(gradient, 1 - BETA1)
            second = self._second[name].mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            spread = second.sqrt().div_(correction2**0.5).add_(EPSILON)
            parameter.addcdiv_(first, spread, value=-learning_rate / correction1)
            parameter.grad = None

    def state(self) -> dict[str, NDArray[np.float32]]:
        """All that a resumed run needs."""
        moments = {f"first.{name}": value.numpy() for name, value in self._first.items()}
        moments |= {f"second.{name}": value.numpy() for name, value in self._second.items()}
        return moments | {"steps": np.array([self._steps], dtype=np.float32)}

    def restore(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Goes on from what `state` gave; KeyError when it is of another net."""
        for name in self._parameters:
            self._first[name] = torch.from_numpy(np.array(state[f"first.{name}"]))
            self._second[name] = torch.from_numpy(np.array(state[f"second.{name}"]))
        self._steps = int(state["steps"][0])


def parameters_of(net: nn.Module) -> dict[str, NDArray[np.float32]]:
    """A copy of every parameter."""
    return {name: value.detach().numpy().copy() for name, value in net.named_parameters()}


@torch.no_grad()
def set_parameters(net: nn.Module, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Puts `values` into the net; KeyError when one lacks."""
    for name, parameter in net.named_parameters():
        parameter.copy_(_tensor(values[name]))


def _tensor(value: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(value))
