"""A task of a workflow instance as the store has it: what it works on, what it gives, what earlier ones left it."""
