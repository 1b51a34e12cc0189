"""What a perturbation is compared with: the l2 control and attacks of foolbox."""

from ssimpert.perturbation.baselines.foolbox_baseline import foolbox_baseline
from ssimpert.perturbation.baselines.l2_control import l2_control

__all__ = ["foolbox_baseline", "l2_control"]
