"""The method ``dual``: overlapping SSIM windows by one multiplier a constraint."""
