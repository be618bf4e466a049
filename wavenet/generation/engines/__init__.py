"""Engines that draw the samples of a request; see ``base.Engine``."""
