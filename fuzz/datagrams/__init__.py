"""Datagrams of real games with something changed in them, by the million, at each engine.

Everything but what libFuzzer does follows from a seed.
"""
