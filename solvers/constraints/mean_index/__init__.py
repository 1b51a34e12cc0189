"""What the mean SSIM needs beside its set: the ellipsoid of a convex step, losses and bound of tiles."""
