"""The mathematics that annotators share."""
