"""The mathematics: arrays in, arrays out; no pandas, no status, no files."""
