"""What methods and certificates of the mean SSIM need: the ellipsoid of a convex step, and the bound for tiles."""
