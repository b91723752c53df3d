"""What happens to the network of a genotype: trained from scratch, saved, measured, used.

`settings` the recipes, `training` the step, `retrain` the loop over it, `files` what is saved, `measure`, `evaluate` and `predict`.
"""
