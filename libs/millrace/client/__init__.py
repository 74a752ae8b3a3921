"""What applications use: publish events, ask for predictions, follow releases, replay recorded time.

Import from the modules (`millrace.client.producer`, `.predictor`, `.features`, `.releases`, `.replay`, `.addresses`).
"""
