"""Many hours of games, with everything going wrong that may, around the real table and engine on a virtual clock.

Everything follows from a seed: the same seed is the same run, step by step.
"""
