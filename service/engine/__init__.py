"""Pixels in, pixels out: windows gathered into batches for the networks that live on the device."""
