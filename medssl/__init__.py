"""medssl: self-supervised pretraining of 3D encoders on unlabelled medical scans."""

__version__ = "0.1.0"
