#include "words.h"

#include <ctype.h>

long count_words(FILE *stream) {
    long count = 0;
    int inside = 0;
    int character;

    while ((character = getc(stream)) != EOF) {
        if (isspace(character)) {
            inside = 0;
        } else if (!inside) {
            inside = 1;
            count++;
        }
    }
    return count;
}
