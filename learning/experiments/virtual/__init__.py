"""A fleet on a virtual clock: the product's own robot, operator and learner code, in one process.

Robots, scripted operators and the learner advance in simulated seconds at stated rates. What is
modelled is time and the server between them; everything that decides what is learned is the
product's own code (docs/learners.md, "The virtual clock").
"""
