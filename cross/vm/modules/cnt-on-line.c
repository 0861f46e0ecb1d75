// SPDX-License-Identifier: GPL-2.0
/* Puts the kernel's interrupt-cnt on a line of a chip, which a device tree would do elsewhere. */
#include <linux/gpio/machine.h>
#include <linux/module.h>
#include <linux/platform_device.h>

static char *chip = "counter";
module_param(chip, charp, 0444);
static int line;
module_param(line, int, 0444);

static struct gpiod_lookup_table lookup = {
	.dev_id = "interrupt-cnt",
	.table = { { .flags = 0 }, { } },
};
static struct platform_device *device;

static int __init begin(void)
{
	lookup.table[0] = GPIO_LOOKUP(chip, line, NULL, 0);
	gpiod_add_lookup_table(&lookup);
	device = platform_device_register_simple("interrupt-cnt", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device)) {
		gpiod_remove_lookup_table(&lookup);
		return PTR_ERR(device);
	}
	return 0;
}

static void __exit end(void)
{
	platform_device_unregister(device);
	gpiod_remove_lookup_table(&lookup);
}

module_init(begin);
module_exit(end);
MODULE_DESCRIPTION("interrupt-cnt on a line, for tests");
MODULE_LICENSE("GPL");
