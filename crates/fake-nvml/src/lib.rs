//! A fake libnvidia-ml.so for tests: scripted by a file, knows its own truth.
