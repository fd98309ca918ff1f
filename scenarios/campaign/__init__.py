"""Campaigns: a plan of commands, run by Dask on one machine or many."""
