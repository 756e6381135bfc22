"""The families. Every module here is imported when the zoo is listed; it registers what it defines."""
