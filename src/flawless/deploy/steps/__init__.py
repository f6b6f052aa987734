"""The steps of a deploy, a class a phase. Each reads as the phase's line in the design."""
