"""Export tasks that clients elsewhere fetch, carry out and report on, because nobody can reach them from here."""
