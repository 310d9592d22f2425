/* Halves on a processor: their bits to float and back, rounded to nearest even. For emulation. */
#ifndef GO_HALF_H
#define GO_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float go_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t go_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float go_from_bf16(uint16_t bits) { return go_from_bits((uint32_t)bits << 16); }

static inline uint16_t go_to_bf16(float value) {
    const uint32_t bits = go_to_bits(value);
    if (value != value) return 0x7FC0;
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static inline float go_from_f16(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size;
    if (exponent == 31)
        size = fraction ? NAN : INFINITY;
    else
        size = exponent ? ldexpf((float)(1024 + fraction), exponent - 25)
                        : ldexpf((float)fraction, -24);
    return bits >> 15 ? -size : size;
}

static inline uint16_t go_to_f16(float value) {
    const uint16_t sign = (uint16_t)(go_to_bits(value) >> 31 << 15);
    const float size = fabsf(value);
    int exponent;
    if (value != value) return 0x7E00;
    if (size == 0) return sign;
    if (size >= 65520) return sign | 0x7C00;
    frexpf(size, &exponent);
    if (exponent < -13) exponent = -13; /* below lie the subnormals */
    const float units = rintf(ldexpf(size, 11 - exponent)); /* rounds to even */
    return (uint16_t)(sign + ((exponent + 13) << 10) + (int)units);
}

enum { GO_IS_FLOAT, GO_IS_F16, GO_IS_BF16 };

static inline float go_value_at(const void *memory, int kind, int64_t i) {
    if (kind == GO_IS_FLOAT) return ((const float *)memory)[i];
    const uint16_t bits = ((const uint16_t *)memory)[i];
    return kind == GO_IS_F16 ? go_from_f16(bits) : go_from_bf16(bits);
}

static inline void go_put_at(void *memory, int kind, int64_t i, float value) {
    if (kind == GO_IS_FLOAT)
        ((float *)memory)[i] = value;
    else
        ((uint16_t *)memory)[i] = kind == GO_IS_F16 ? go_to_f16(value) : go_to_bf16(value);
}

#endif
