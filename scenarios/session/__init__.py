"""What every command shares: options, the session it runs in, its record, its report, its errors."""
