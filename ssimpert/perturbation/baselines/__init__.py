"""What a perturbation is compared with: the l2 control and attacks of foolbox."""
