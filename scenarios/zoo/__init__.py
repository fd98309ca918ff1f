"""What a race of the zoo is, and the command that catches them all."""
