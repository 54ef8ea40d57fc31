#ifndef WORDS_H
#define WORDS_H

#include <stdio.h>

/* Returns how many words a stream has, which whitespace separates. */
long count_words(FILE *stream);

#endif
