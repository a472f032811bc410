"""Policies: backbones, action heads, learning objectives and training."""
