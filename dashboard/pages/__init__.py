"""The pages: what each shows, in the words of its reader, by the clock of its store."""
