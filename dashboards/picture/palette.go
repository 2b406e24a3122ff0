package picture

import (
	"cmp"
	"image"
	"image/color"
	"maps"
	"slices"
)

// fewColours returns the picture with the 256 colours that it has most of; those
// of smoothed edges go to the nearest. It takes a third of the space.
func fewColours(full image.Image) *image.Paletted {
	bounds := full.Bounds()
	used := make(map[color.RGBA]int)
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(full.At(x, y)).(color.RGBA) }
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			used[at(x, y)]++
		}
	}
	most := slices.SortedFunc(maps.Keys(used), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(used[b], used[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	var palette color.Palette
	for _, c := range most[:min(256, len(most))] {
		palette = append(palette, c)
	}
	nearest := make(map[color.RGBA]uint8, len(most))
	for _, c := range most {
		nearest[c] = uint8(palette.Index(c))
	}
	few := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			few.SetColorIndex(x, y, nearest[at(x, y)])
		}
	}
	return few
}
