/* Says which digit a picture shows: classify WEIGHTS PICTURE

   PICTURE is a plain PGM (P2) of 16 by 16 pixels. The model is a library with a C interface, which
   needs libc alone; there is no Python here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model.h"

enum { PIXELS = GO_MODEL_INPUT_0_BYTES / sizeof(float), SHOWN = 3 };
enum { DIGITS = GO_MODEL_OUTPUT_0_BYTES / sizeof(float) };

/* Fills pixels[PIXELS] with ink in [0, 1]. Returns 0 after saying what is wrong with the file. */
static int read_picture(const char *path, float *pixels) {
    const go_model_tensor *const image = go_model_input(0); /* [1, 1, height, width] */
    int width = 0, height = 0, white = 0, read = 0;
    FILE *const file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return 0;
    }
    if (fscanf(file, "P2 %d %d %d", &width, &height, &white) == 3 && white > 0 &&
        height == image->shape[2] && width == image->shape[3]) {
        int ink = 0;
        while (read < PIXELS && fscanf(file, "%d", &ink) == 1)
            pixels[read++] = (float)ink / (float)white;
    }
    fclose(file);
    if (read == PIXELS) return 1;
    fprintf(stderr, "%s is not a plain PGM of %dx%d pixels\n", path, (int)image->shape[3],
            (int)image->shape[2]);
    return 0;
}

/* Scores to probabilities. */
static void softmax(float *x, int n) {
    float largest = x[0], sum = 0;
    for (int i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    for (int i = 0; i < n; i++) sum += x[i] = expf(x[i] - largest);
    for (int i = 0; i < n; i++) x[i] /= sum;
}

/* Prints the SHOWN most probable, the best first; each is struck out once printed. */
static void print_best(float *probabilities, int n) {
    for (int shown = 0; shown < SHOWN; shown++) {
        int best = 0;
        for (int i = 1; i < n; i++)
            if (probabilities[i] > probabilities[best]) best = i;
        printf("%d  %5.1f %%\n", best, 100.0 * (double)probabilities[best]);
        probabilities[best] = -1;
    }
}

int main(int argc, char **argv) {
    static float pixels[PIXELS], scores[DIGITS];
    const void *const inputs[] = {pixels};
    void *const outputs[] = {scores};
    go_model *model = NULL;

    if (argc != 3) {
        fprintf(stderr, "usage: %s WEIGHTS PICTURE\n", argv[0]);
        return EXIT_FAILURE;
    }
    if (!read_picture(argv[2], pixels)) return EXIT_FAILURE;

    int error = go_model_open(argv[1], 1, &model);
    if (error == GO_MODEL_OK) error = go_model_run(model, inputs, outputs);
    go_model_close(model);
    if (error != GO_MODEL_OK) {
        fprintf(stderr, "%s: %s\n", argv[1], go_model_error(error));
        return EXIT_FAILURE;
    }
    softmax(scores, DIGITS);
    print_best(scores, DIGITS);
    return EXIT_SUCCESS;
}
