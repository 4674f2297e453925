"""Encoders behind one contract, decoder and heads that know nothing else, weights in and out."""
