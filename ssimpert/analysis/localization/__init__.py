"""Does a map find the object? The pointing game, thresholded boxes, MaxBoxAcc, masks."""
