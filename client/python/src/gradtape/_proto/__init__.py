"""Generated from proto/gradtape/v1 by scripts/generate_proto.py."""
