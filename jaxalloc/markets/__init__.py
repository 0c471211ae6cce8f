"""Files and frames -> a validated `Panel` of returns."""
