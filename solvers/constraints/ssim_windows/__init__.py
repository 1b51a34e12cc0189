"""What the sets of SSIM windows share: moments, duals, conic form, tiles, feasibility, pixel bounds."""
