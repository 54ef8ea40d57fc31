#include "words.h"

int main(void) {
    printf("%ld words\n", count_words(stdin));
    return 0;
}
