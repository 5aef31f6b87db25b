"""Coefficients of an `EfficientNet` of any size: the paper's powers, or between released networks.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
equation 3. The interpolation between the released networks is in no paper.
"""

from dataclasses import dataclass

import numpy as np

from ..arguments import check_flag, check_number, check_positive
from ..errors import InputError
from .efficientnet import FAMILY, RELEASED

# The phi at which the paper's rule comes nearest to each released network.
PHI = (0, 0.5, 1, 2, 3.5, 5, 6, 7)


@dataclass(frozen=True)
class Scaling:
    """What `EfficientNet` takes; `width_coefficient` and `depth_coefficient` scale B0."""

    width_coefficient: float
    depth_coefficient: float
    resolution: int
    dropout_rate: float


def compound_scaling(
    phi: float,
    alpha: float = 1.2,
    beta: float = 1.1,
    gamma: float = 1.15,
    *,
    released: bool = True,
) -> Scaling:
    """Coefficients for a network that costs about 2**phi times B0.

    B0 to B7 are at phi = 0, 0.5, 1, 2, 3.5, 5, 6 and 7. Their released coefficients do not
    follow the powers (B7 has depth 3.1, not 1.2**7 = 3.58), hence the two answers.

    Args:
        phi: compound coefficient, 0 to 7 for the released table and any for the powers.
        alpha, beta, gamma: bases of depth, width and resolution; those of the paper by default.
            Others have no released table.
        released: whether to give the released coefficients, linearly interpolated between two
            networks and with the resolution rounded to a multiple of 4, or the paper's powers
            `alpha**phi`, `beta**phi` and `224 * gamma**phi`. The dropout is that of the table.

    Returns:
        `EfficientNet(**dataclasses.asdict(scaling))` builds the network.

    Raises:
        ValueError: phi is outside the released table, or the bases are not the paper's.

    Source: Tan & Le 2019, equation 3, and the authors' table of coefficients.
    """
    alpha = check_positive("alpha", alpha)
    beta = check_positive("beta", beta)
    gamma = check_positive("gamma", gamma)
    phi = check_number("phi", phi)
    released = check_flag("released", released)
    if released and (alpha, beta, gamma) != (1.2, 1.1, 1.15):
        raise InputError(
            f"alpha={alpha}, beta={beta}, gamma={gamma} have no released networks; allowed with"
            " released=True are 1.2, 1.1 and 1.15."
        )
    if released and not PHI[0] <= phi <= PHI[-1]:
        raise InputError(
            f"phi must be in 0..{PHI[-1]} (B0 to B7), got {phi!r}; released=False takes any."
        )

    def between(field: str) -> float:
        column = [getattr(variant, field) for variant in RELEASED]
        return round(float(np.interp(phi, PHI, column)), 6)

    dropout = between("dropout_rate")
    if not released:
        try:
            side = max(FAMILY.min_size, round(FAMILY.size * gamma**phi))
            return Scaling(beta**phi, alpha**phi, side, dropout)
        except OverflowError as error:
            raise InputError(
                f"phi must be small enough for finite coefficients, got {phi!r}."
            ) from error
    return Scaling(
        between("width_coefficient"),
        between("depth_coefficient"),
        4 * round(between("resolution") / 4),
        dropout,
    )
