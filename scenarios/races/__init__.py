"""The zoo: one file per race, named after its knob. scenarios/race.py says what a race is."""
