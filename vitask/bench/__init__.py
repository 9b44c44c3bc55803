"""What VITask costs beside plain tuning, measured side by side in one process: `vitask bench`."""
