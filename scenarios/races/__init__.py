"""The zoo: one file per race, named after its knob. scenarios/zoo/race.py says what a race is."""
