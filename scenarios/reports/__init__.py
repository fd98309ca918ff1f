"""A record as pictures: one HTML file, SVG, a Perfetto trace; and two records side by side."""
