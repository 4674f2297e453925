"""Encoders behind one contract, the decoder and heads that know nothing but that contract, weights in and out."""
