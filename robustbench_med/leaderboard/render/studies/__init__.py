"""The studies beside the boards, each from records of its own: certificates, corruptions, attacks."""
