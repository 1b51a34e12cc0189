"""The methods of the mean SSIM: ``mean_tiles``, ``mean_windows`` and ``energy_step``."""
